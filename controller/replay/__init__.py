"""What would have happened: a model of the HPA, and later the whole decision over recorded traffic. Pure, faster than time."""
