"""XID codes: what the driver says when something goes wrong, and how bad that is.

Codes after NVIDIA's "XID Errors" (docs.nvidia.com/deploy/xid-errors); the words are ours.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["critical", "warning", "unknown", "application", "corrected"]
#: The worst first.
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "unknown", "application", "corrected")

_CRITICAL = frozenset({48, 62, 64, 74, 79, 95, 119, 120})
_WARNING = frozenset({94})
_APPLICATION = frozenset({13, 31, 43})

MEANINGS = {
    1: "the driver sent commands that the GPU could not read",
    6: "the driver sent commands that the GPU could not read",
    8: "the GPU stopped working on what it was given",
    11: "the driver sent commands that the GPU could not read",
    12: "the driver failed while it handled an exception of the GPU",
    13: "a program made the graphics engine fault: an access out of bounds, or a bad instruction",
    16: "the display engine hung",
    18: "bus mastering is off in the GPU's PCI configuration",
    24: "waiting for a semaphore of the GPU took too long",
    25: "a program sent commands that are not allowed",
    26: "the frame buffer did not answer in time",
    31: "a program read or wrote GPU memory at an address that is not mapped",
    32: "the commands for the GPU arrived damaged: driver, PCIe or memory",
    37: "the driver's firmware failed",
    38: "the driver's firmware failed",
    43: "a program's work was stopped after a fault of its own; the GPU goes on",
    44: "the graphics engine faulted while it changed from one program to another",
    45: "a program's work was cleared away: it ended, or an earlier error took it along",
    46: "the GPU stopped working on what it was given",
    48: "a double-bit memory error that ECC could not correct",
    54: "the board lacks auxiliary power",
    56: "the display engine failed",
    57: "setting up the video memory failed",
    58: "the video memory's interface is unstable",
    59: "the GPU's internal controller failed",
    61: "the GPU's internal controller stopped at a breakpoint",
    62: "the GPU's internal controller halted: reset the GPU",
    63: "a bad memory page was retired, or a bad row remapped",
    64: "retiring a bad memory page or remapping a bad row failed",
    68: "the video decoder faulted",
    69: "a program used the graphics engine in a way it does not know",
    74: "an NVLink failed: a cable, a peer GPU or a switch",
    79: "the GPU fell off the bus: it no longer answers over PCIe",
    80: "data reached the GPU damaged",
    92: "single-bit memory errors are frequent",
    93: "the InfoROM is written too often",
    94: "a memory error that ECC could not correct, contained to one program",
    95: "a memory error that ECC could not correct or contain: reset the GPU",
    109: "changing from one program to another took too long",
    110: "a security fault",
    119: "the GPU's system processor (GSP) did not answer in time",
    120: "the GPU's system processor (GSP) failed",
    121: "the link between GPU and CPU (C2C) had an error that was corrected",
    122: "reading the board's SPI memory failed",
    123: "the power controller did not answer",
    136: "a link failed to train",
    137: "a peer's access over NVLink was not allowed",
    140: "a memory error was found that ECC could not correct",
    143: "the GPU could not be initialised",
    149: "an NVLink failed and its link is down",
    154: "what the GPU needs to recover has changed: a reset, a reboot, or nothing",
}


def explain_xid(code: int) -> str:
    """Say what a code means."""
    return MEANINGS.get(code, "not a code whose meaning is known here: see NVIDIA's list of XID errors")


def grade_xid(code: int) -> Severity:
    """Say how bad a code is."""
    if code in _CRITICAL:
        return "critical"
    if code in _WARNING:
        return "warning"
    return "application" if code in _APPLICATION else "unknown"


def worst(severities: list[Severity]) -> Severity:
    """Choose the worst of at least one."""
    return min(severities, key=SEVERITIES.index)
