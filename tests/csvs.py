"""Small CSV files for tests, with the oddities of real ones."""

from __future__ import annotations

WIDE_HEADER = (
    "timestamp,gpu_id,hostname,uuid,device,modelname,gpu_utilization,memory_utilization,"
    "memory_used_mb,memory_free_mb,temperature,power_draw,sm_clock_mhz,memory_clock_mhz\n"
)


def wide_row(time="2024-01-15T10:30:00Z", gpu=0, host="gpu-node-01", uuid=None, util="85.5", **other):
    cells = {"used": "45000", "temp": "65.0", "power": "350.5", **other}
    uuid = f"GPU-{host}-{gpu}" if uuid is None else uuid
    return (
        f"{time},{gpu},{host},{uuid},nvidia{gpu},NVIDIA H100 80GB HBM3,{util},70.2,"
        f"{cells['used']},35000,{cells['temp']},{cells['power']},1410,1215\n"
    )


def wide(rows):
    return (WIDE_HEADER + "".join(rows)).encode()


def wide_history(gpus=4, instants=10, *, start=0, host="gpu-node-01", util=None):
    """A file of `gpus` GPUs at `instants` seconds after 10:00:00, in order of time."""
    rows = []
    for i in range(start, start + instants):
        time = f"2024-01-15T{10 + i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d}Z"
        for gpu in range(gpus):
            value = f"{(i * 7 + gpu) % 1000 / 10}" if util is None else util
            rows.append(wide_row(time, gpu, host, util=value))
    return wide(rows)


LONG_HEADER = (
    "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw\n"
)


def long_row(metric, value, *, time="2025-07-18T20:42:34Z", gpu=0, host="dgx-1", pod="", labels=""):
    raw = f'DCGM_FI_DRIVER_VERSION=""535.129.03"",Hostname=""{host}""{labels},gpu=""{gpu}""'
    return (
        f'"{time}","{metric}","{gpu}","nvidia{gpu}","GPU-{host}-{gpu}","NVIDIA H100 80GB HBM3","{host}",'
        f'"","{pod}","","{value}","{raw}"\n'
    )


def long(rows):
    return (LONG_HEADER + "".join(rows)).encode()
