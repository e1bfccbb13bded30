# finds ConsistentInstructionCasing at 4
FROM scratch
COPY a /a
copy b /b
