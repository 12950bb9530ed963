"""What ends or limits logins, beyond what a credential says of itself."""
