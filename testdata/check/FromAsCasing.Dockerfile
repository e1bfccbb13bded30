# finds FromAsCasing at 2
FROM scratch as a
COPY x /x
