"""Experiments, their search on Ray Tune, the records they leave, and the command line."""

import os

# Ray reads these when it is imported, so they stand before any module that does. The first binds every process of Ray
# to loopback (undocumented; a test looks at the sockets); without it Ray listens on all interfaces.
os.environ.update(
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_AUTH_MODE="token",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AIR_NEW_OUTPUT="0",
    RAY_memory_monitor_refresh_ms="0",  # it ends the whole run, where the kernel ends one worker: one failed trial
    RAY_gcs_rpc_server_reconnect_timeout_s="15",  # how long the driver outlives the head of Ray
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_PRINT_ALL_TRIAL_ERRORS="0",
)
