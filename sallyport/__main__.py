"""`python -m sallyport`, where the command is not installed."""

from sallyport.cli.main import main

if __name__ == "__main__":
    main()
