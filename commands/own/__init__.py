"""A folder of your own, looked through and planned for."""
