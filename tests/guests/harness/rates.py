"""rates - a live table of a weir's ports, once a second.

    rates --weir PROGRAM --control SOCKET [--seconds N]

Ends after N seconds or with Ctrl-C; with 1 if no frame has reached a guest in all that time,
or the daemon is gone. rx and tx are said from the switch's side: rx is what the guest sends.
"""
import argparse
import json
import subprocess
import sys
import time
from typing import Any

from .process import program

HEAD = ("port", "state", "rx Mpps", "rx Gbit/s", "tx Mpps", "tx Gbit/s", "dropped", "held turns")


def main() -> int:
    parser = program(__doc__)
    parser.add_argument("--weir", required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    end = time.monotonic() + (options.seconds or float("inf"))
    delivered, drawn = 0, 0
    try:
        while time.monotonic() < end:
            time.sleep(min(1, max(0, end - time.monotonic())))
            ports = ask(options)
            delivered = sum(port["counters"]["tx_frames"] for port in ports)
            if drawn and sys.stdout.isatty():
                print(f"\x1b[{drawn}A\x1b[J", end="")       # draw over the last table
            table = rows(ports)
            drawn = len(table) + 1
            print(*table, "", sep="\n", flush=True)
    except KeyboardInterrupt:
        pass
    except subprocess.CalledProcessError as error:
        print(f"rates: the daemon doesn't answer: {error.stderr.strip()}", file=sys.stderr)
        return 1
    print(f"{delivered} frames have reached a guest")
    return 0 if delivered else 1


def ask(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All ports, as the daemon describes them."""
    answer = subprocess.run([options.weir, "--control", options.control, "show", "ports", "--json"],
                            check=True, capture_output=True, text=True)
    ports: list[dict[str, Any]] = json.loads(answer.stdout)
    return ports


def rows(ports: list[dict[str, Any]]) -> list[str]:
    """The table's lines."""
    table = [HEAD]
    for port in ports:
        rate, count = port["rates"], port["counters"]
        table.append((port["name"], port.get("sentence") or port["state"],
                      f"{rate['rx_frames_per_second'] / 1e6:.3f}", f"{rate['rx_bits_per_second'] / 1e9:.2f}",
                      f"{rate['tx_frames_per_second'] / 1e6:.3f}", f"{rate['tx_bits_per_second'] / 1e9:.2f}",
                      str(count["dropped_frames"]), str(count["held_turns"])))
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths))) for row in table]
