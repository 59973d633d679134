-- The version of the tables. Fails if another role could have code of its own in them. The three statements are one
-- message, so that the search path holds for all of it, and the third is not even planned if the second fails.
SET LOCAL search_path = {search_path};
-- Plain SQL raises an error with a message of its own only by a cast that fails.
SELECT WHERE coalesce(({fault}), '0')::integer > 0;
SELECT version FROM {schema}.state WHERE id = 1;
