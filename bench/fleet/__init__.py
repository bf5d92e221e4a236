"""The same requests to three clients, on three equal fleets of real HTTP servers."""
