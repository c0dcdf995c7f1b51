"""``python -m study.cluster ADDRESS NODES SECONDS`` waits for a cluster's nodes: what a batch file does before a study.

What has come when the time is up is enough: nodes that come later are used as well.
"""

import sys

from study.cluster import ClusterError, await_nodes


def main(address: str, nodes: str, seconds: str) -> None:
    """Wait, and say how many nodes there are; without a cluster, exit code 1."""
    try:
        found = await_nodes(address, int(nodes), float(seconds))
    except ClusterError as error:
        sys.exit(f"{error} (waited {seconds} seconds)")
    if found < int(nodes):
        print(f"{found} of {nodes} nodes have joined within {seconds} seconds; going on with them", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
