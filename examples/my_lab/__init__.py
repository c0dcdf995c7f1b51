"""A laboratory of one's own: a method, a data set, a network and a metric."""
