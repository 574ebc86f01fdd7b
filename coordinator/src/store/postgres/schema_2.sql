-- Version 2: plans that are submitted within a transaction of the caller's.

-- Functions that run with their owner's rights take this path with them. Named last, a caller's temporary tables cannot
-- stand in for ours.
SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true);

CREATE TABLE submissions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What makes one run of it however often it is taken up. The number would come again in another database.
    key uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Emptied when it is answered: the run has it.
    plan text NOT NULL,
    parameters jsonb NOT NULL,
    fail_fast boolean NOT NULL,
    submitted_by text NOT NULL DEFAULT session_user,
    submitted_at timestamptz NOT NULL DEFAULT now(),
    -- What became of it: a run, or why not.
    answered_at timestamptz,
    run text,
    error text
);

CREATE INDEX submissions_waiting ON submissions (id) WHERE answered_at IS NULL;

-- Submits a plan, if and when the transaction commits. Gives the number under which `submissions` says what became of it.
-- Whoever may execute it needs no right to any table.
CREATE FUNCTION submit(plan text, parameters jsonb DEFAULT '{}', fail_fast boolean DEFAULT false)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $submit$
DECLARE
    submission bigint;
BEGIN
    IF plan IS NULL OR octet_length(plan) > 67108864 THEN
        RAISE EXCEPTION 'a plan has at most 64 MiB' USING ERRCODE = '22023';
    END IF;
    IF jsonb_typeof(parameters) IS DISTINCT FROM 'object' OR octet_length(parameters::text) > 65536 THEN
        RAISE EXCEPTION 'the parameters are an object of names and values of at most 64 KiB' USING ERRCODE = '22023',
            HINT = 'for example {"region": "eu"}';
    END IF;
    INSERT INTO submissions (plan, parameters, fail_fast)
        VALUES (submit.plan, submit.parameters, coalesce(submit.fail_fast, false)) RETURNING id INTO submission;
    PERFORM pg_notify(left(current_schema(), 50) || ' submit', '');
    RETURN submission;
END
$submit$;

-- What became of a plan that the caller submitted: its run, or why there is none; neither while it waits.
CREATE FUNCTION submitted(submission bigint, OUT run text, OUT error text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $submitted$
    SELECT s.run, s.error FROM submissions AS s
    WHERE s.id = submitted.submission AND s.submitted_by = session_user
$submitted$;

REVOKE ALL ON FUNCTION submit(text, jsonb, boolean), submitted(bigint) FROM PUBLIC;
