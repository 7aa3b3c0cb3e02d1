"""What an account lacks for a deployment, looked at before anything is built."""
