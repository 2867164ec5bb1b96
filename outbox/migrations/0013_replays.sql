-- What a replay of many needs beside its items to go on after a restart: its pace, and which failures were accepted.

ALTER TABLE letter_replays
    ADD COLUMN failures_accepted integer NOT NULL DEFAULT 0,   -- by who resumed it after it had stopped
    ADD COLUMN paced_at timestamptz;                           -- up to when its letters a second are used up
ALTER TABLE letter_replay_items
    ADD COLUMN sent_at timestamptz,
    ADD COLUMN why text;                                       -- why it was skipped
CREATE INDEX letter_replay_items_by_state ON letter_replay_items (replay_id, state, number);
CREATE INDEX letter_replays_by_time ON letter_replays (created_at DESC, replay_id DESC);

-- Edits that wait for a second person.
CREATE INDEX letter_edits_waiting ON letter_edits (proposed_at) WHERE state = 'waiting';
