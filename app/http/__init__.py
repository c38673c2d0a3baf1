"""HTTP: the guarded protocol, admission, API keys, deadlines, the scored endpoint, routes, error answers and draining."""
