from controller.deadline import FLOOR_SECONDS, Deadline


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_call_gets_the_smaller_of_its_own_timeout_and_what_is_left():
    clock = Clock()
    deadline = Deadline.after(5.0, clock)
    assert deadline.cap(3.0) == 3.0
    clock.now += 4.0
    assert deadline.cap(3.0) == 1.0


def test_an_expired_deadline_never_turns_into_no_timeout_at_all():
    clock = Clock()
    deadline = Deadline.after(1.0, clock)
    clock.now += 10.0
    assert deadline.expired()
    assert deadline.remaining_seconds() == 0.0
    assert deadline.cap(3.0) == FLOOR_SECONDS > 0
