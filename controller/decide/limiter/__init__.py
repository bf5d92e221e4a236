"""The adaptive concurrency limit, pure: `limiter.update(rules, state, sample) -> (state, limit, reason)`.

`sample` says what it is told and whether that may be believed, `curve` fits throughput against requests in flight,
`knee` follows the fit over time and notices changes, `limiter` turns it into a limit in bounded steps.
"""
