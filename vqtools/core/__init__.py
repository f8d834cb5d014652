"""The ground floor: settings, device, the job loop, files, records. Knows nothing of pictures or networks."""
