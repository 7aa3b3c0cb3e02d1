-- Why: a partner may begin to act when it is asked. Its word that it has nothing counts only some time after the first
-- question that it answered with a statement, which is when that was asked; empty where there was none since the delivery
-- became unknown.
ALTER TABLE delivery ADD COLUMN first_answered_at timestamptz;
