"""What a study found: load its tables, pair the arms of each comparison, measure the gaps, and report them.

Reads tables only: neither torch nor Ray is needed, and nothing here touches the network.
"""
