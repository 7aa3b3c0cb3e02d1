-- Why: an access token that replaced a refused one, and is refused as well, is not replaced again at once. Code that does
-- not know the column replaces it after each 401.
ALTER TABLE oauth_token ADD COLUMN replaceable_from timestamptz;

GRANT UPDATE (replaceable_from) ON oauth_token TO sallyport_app;
GRANT SELECT (replaceable_from) ON oauth_token TO sallyport_readonly;
