"""The metrics of a chain in which nothing is wrong, and what each fault changes, in promtool's notation.

A sample is taken every 30 s. A fault begins after :data:`FAULT_MINUTES`.
"""

from dataclasses import dataclass

FAULT_MINUTES = 20
STEP_SECONDS = 30
DAY = 86400

SINK = 'job="facewire-sink",instance="s3sink:9100"'
GALLERY = 'job="facewire-gallery",instance="gallery:9100"'
AUTHORITY = 'job="facewire-authority",instance="pki:9100"'
DETECTOR = 'job="facewire-detector",instance="jetson-1:9101"'
FORWARDER = 'job="facewire-forwarder",instance="jetson-1:9102"'
DEVICE = f'{GALLERY},device="jetson-1"'
CAMERA = f'{DEVICE},camera="door"'
_FAULT_STEPS = FAULT_MINUTES * 60 // STEP_SECONDS

QUIET = {
    **{f"up{{{job}}}": "1x130" for job in (SINK, GALLERY, AUTHORITY, DETECTOR, FORWARDER)},
    **{f'facewire_link_up{{{job},broker="cloud"}}': "1x130" for job in (SINK, GALLERY, FORWARDER)},
    **{f'facewire_link_up{{{job},broker="local"}}': "1x130" for job in (DETECTOR, FORWARDER)},
    # A failed attempt now and then, which is repeated.
    f'facewire_s3_write_seconds_count{{{SINK},answer="written"}}': "0+30x130",
    f'facewire_s3_write_seconds_count{{{SINK},answer="failed"}}': "0x20 1x100",
    f"facewire_objects_refused_total{{{SINK}}}": "0x130",
    f"facewire_messages_over_budget_lost_total{{{SINK}}}": "0x130",
    f"facewire_messages_dropped_total{{{SINK}}}": "0x130",
    f"facewire_s3_up{{{GALLERY}}}": "1x130",
    **{
        f"facewire_certificate_expires_timestamp_seconds{{{job}}}": f"{365 * DAY}x130"
        for job in (SINK, GALLERY, f'{AUTHORITY},certificate="broker"', FORWARDER)
    },
    f"facewire_device_certificate_expires_timestamp_seconds{{{DEVICE}}}": f"{365 * DAY}x130",
    f"facewire_device_online{{{DEVICE}}}": "1x130",
    f"facewire_camera_online{{{CAMERA}}}": "1x130",
    f"facewire_camera_frames_per_second{{{CAMERA}}}": "25x130",
    f"facewire_camera_outbox_faces{{{CAMERA}}}": "3x130",
    f"facewire_camera_faces_dropped{{{CAMERA}}}": "7x130",
    f"facewire_frames_total{{{DETECTOR}}}": "0+750x130",
    f"facewire_outbox_faces{{{DETECTOR}}}": "3x130",
    f"facewire_outbox_problem{{{DETECTOR}}}": "0x130",
    f"facewire_faces_dropped{{{DETECTOR}}}": "7x130",
    f"facewire_faces_unkept_total{{{DETECTOR}}}": "0x130",
    f"facewire_outbox_damaged_total{{{DETECTOR}}}": "0x130",
    f'facewire_messages_dropped_total{{{FORWARDER},direction="up"}}': "0x130",
    f"facewire_clock_set{{{DETECTOR}}}": "1x130",
}
"""Every series of an undisturbed chain, by its name."""
_CROWD = "3x40 3+20x14 303-20x14 3x60"
CROWD = {
    f"facewire_camera_outbox_faces{{{CAMERA}}}": _CROWD,
    f"facewire_outbox_faces{{{DETECTOR}}}": _CROWD,
}
"""A crowd passes for a quarter of an hour, which is no fault."""


def then(before: str, after: str) -> str:
    """Values before and after the fault begins: ``before`` without a repetition, ``after`` with or without one."""
    return f"{before}x{_FAULT_STEPS - 1} {after}{'' if 'x' in after else 'x60'}"


def stalled(each: int) -> str:
    """A counter that grows by ``each`` until the fault begins, and then stands still."""
    return f"0+{each}x{_FAULT_STEPS - 1} {each * (_FAULT_STEPS - 1)}x60"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, the alert that it raises, and how soon."""

    alert: str
    minutes: int
    """The alert is raised this long after the fault at the latest."""
    changes: dict[str, str]
    """Series that the fault changes, or ends: an empty text."""
    others: frozenset[str] = frozenset()
    """Further alerts that the same fault rightly raises within that time."""


FAULTS = [
    Fault("FacewireSinkDown", 2, {f"up{{{SINK}}}": then("1", "0")}),
    Fault("FacewireSinkDown", 7, {f"up{{{SINK}}}": f"1x{_FAULT_STEPS - 1}"}),
    Fault("FacewireProcessDown", 6, {f"up{{{GALLERY}}}": then("1", "0")}),
    Fault("FacewireProcessDown", 6, {f"up{{{AUTHORITY}}}": then("1", "0")}),
    Fault("FacewireBrokerDown", 2, {f'facewire_link_up{{{SINK},broker="cloud"}}': then("1", "0")}),
    Fault(
        "FacewireS3Refuses",
        6,
        {
            f'facewire_s3_write_seconds_count{{{SINK},answer="written"}}': stalled(30),
            f'facewire_s3_write_seconds_count{{{SINK},answer="failed"}}': then("0", "0+5x60"),
        },
    ),
    Fault(
        "FacewireS3Refuses",  # from the start: no face has ever been written
        6,
        {
            f'facewire_s3_write_seconds_count{{{SINK},answer="written"}}': "",
            f'facewire_s3_write_seconds_count{{{SINK},answer="failed"}}': then("0", "0+5x60"),
        },
    ),
    Fault("FacewireS3Unreadable", 6, {f"facewire_s3_up{{{GALLERY}}}": then("1", "0")}),
    Fault("FacewireObjectsRefused", 1, {f"facewire_objects_refused_total{{{SINK}}}": then("0", "1")}),
    Fault("FacewireMessagesLost", 1, {f"facewire_messages_over_budget_lost_total{{{SINK}}}": then("0", "5")}),
    Fault("FacewireMessagesLost", 1, {f"facewire_messages_dropped_total{{{SINK}}}": then("0", "5")}),
    *(
        Fault(
            "FacewireCertificateEnds",
            6,
            {f"facewire_certificate_expires_timestamp_seconds{{{job}}}": then(f"{365 * DAY}", f"{13 * DAY}")},
        )
        for job in (SINK, GALLERY, f'{AUTHORITY},certificate="broker"')
    ),
    Fault(
        "FacewireCertificateEnds",
        6,
        {f"facewire_device_certificate_expires_timestamp_seconds{{{DEVICE}}}": then(f"{365 * DAY}", f"{29 * DAY}")},
    ),
    Fault("FacewireDeviceSilent", 6, {f"facewire_device_online{{{DEVICE}}}": then("1", "0")}),
    Fault(
        "FacewireDeviceSilent",  # and its camera is not reported in addition
        20,
        {
            f"facewire_device_online{{{DEVICE}}}": then("1", "0"),
            f"facewire_camera_online{{{CAMERA}}}": then("1", "0"),
            f"facewire_camera_outbox_faces{{{CAMERA}}}": then("3", "400"),
        },
    ),
    Fault("FacewireCameraGone", 6, {f"facewire_camera_frames_per_second{{{CAMERA}}}": then("25", "0")}),
    Fault("FacewireCameraGone", 6, {f"facewire_camera_online{{{CAMERA}}}": then("1", "0")}),
    Fault("FacewireOutboxGrows", 18, {f"facewire_camera_outbox_faces{{{CAMERA}}}": then("3", "3+20x60")}),
    Fault("FacewireFacesDropped", 1, {f"facewire_camera_faces_dropped{{{CAMERA}}}": then("7", "9")}),
    Fault("FacewireEdgeProcessDown", 2, {f"up{{{DETECTOR}}}": then("1", "0")}),
    Fault("FacewireEdgeProcessDown", 2, {f"up{{{FORWARDER}}}": then("1", "0")}),
    Fault("FacewireEdgeLocalBrokerDown", 2, {f'facewire_link_up{{{FORWARDER},broker="local"}}': then("1", "0")}),
    Fault("FacewireEdgeUplinkDown", 6, {f'facewire_link_up{{{FORWARDER},broker="cloud"}}': then("1", "0")}),
    Fault(
        "FacewireEdgeCameraGone",
        3,
        {f"facewire_frames_total{{{DETECTOR}}}": stalled(750)},
    ),
    Fault("FacewireEdgeOutboxGrows", 18, {f"facewire_outbox_faces{{{DETECTOR}}}": then("3", "3+20x60")}),
    Fault("FacewireEdgeOutboxProblem", 2, {f"facewire_outbox_problem{{{DETECTOR}}}": then("0", "1")}),
    Fault("FacewireEdgeFacesDropped", 1, {f"facewire_faces_dropped{{{DETECTOR}}}": then("7", "9")}),
    Fault("FacewireEdgeFacesDropped", 1, {f"facewire_faces_unkept_total{{{DETECTOR}}}": then("0", "1")}),
    Fault("FacewireEdgeFacesDropped", 1, {f"facewire_outbox_damaged_total{{{DETECTOR}}}": then("0", "1")}),
    Fault(
        "FacewireEdgeFacesDropped",
        1,
        {f'facewire_messages_dropped_total{{{FORWARDER},direction="up"}}': then("0", "1")},
    ),
    Fault("FacewireEdgeClockNotSet", 11, {f"facewire_clock_set{{{DETECTOR}}}": then("1", "0")}),
    Fault(
        "FacewireEdgeCertificateEnds",
        6,
        {f"facewire_certificate_expires_timestamp_seconds{{{FORWARDER}}}": then(f"{365 * DAY}", f"{29 * DAY}")},
    ),
]
