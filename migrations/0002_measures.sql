-- More of what a student is measured by, and which images its last evaluation has right.

ALTER TABLE evaluations ADD COLUMN agreement5 DOUBLE PRECISION;
-- Mean Euclidean distance between the logits of student and teacher.
ALTER TABLE evaluations ADD COLUMN distance DOUBLE PRECISION;
ALTER TABLE evaluations ADD COLUMN entropy DOUBLE PRECISION;
ALTER TABLE evaluations ADD COLUMN teacher_entropy DOUBLE PRECISION;
ALTER TABLE evaluations ADD COLUMN calibration_error DOUBLE PRECISION;
-- A bit an image in the split's order, eight a byte from the lowest, as base64; of a job's last epoch only.
ALTER TABLE evaluations ADD COLUMN correct TEXT;
