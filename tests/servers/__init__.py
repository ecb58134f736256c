"""What the tests start themselves: servers and a browser, each on a port of its own and in a folder of its own."""
