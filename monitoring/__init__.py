"""What admins look at, hear and file: fleet, incidents, drift, reports. It reads the apps below and owns no machine."""
