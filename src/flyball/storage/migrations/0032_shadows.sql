-- How many of a file's predictions only ran beside others: nobody was answered by them.
ALTER TABLE prediction_segment ADD COLUMN shadows INTEGER NOT NULL DEFAULT 0;
