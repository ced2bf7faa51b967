-- Runs that were deleted, and whose events and results are still to be: a run may have millions, too many for one
-- statement.
CREATE TABLE stepflow._deleted (
    no BIGINT PRIMARY KEY
);
