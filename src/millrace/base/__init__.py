"""What every room stands on: ids, actions, time, errors, settings, telemetry. Imports nothing of ours."""
