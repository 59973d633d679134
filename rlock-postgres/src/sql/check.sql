-- The version of the tables. Fails if every role may create objects in the schema: one of them could have made the
-- tables, with code that runs whenever they are used. One message, so that the search path holds for all of it.
SET LOCAL search_path = {search_path};
{guard}
SELECT version FROM {schema}.state WHERE id = 1;
