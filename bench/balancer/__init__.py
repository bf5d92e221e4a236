"""The balancer: what a pick costs, whether shares follow weights, whether counts leak, what sharing counts buys."""
