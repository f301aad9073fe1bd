"""What a call of the API asks for, whether it is answered, and with which code: pure."""
