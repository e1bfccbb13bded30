# finds LegacyKeyValueFormat at 3
FROM scratch
ENV A b c
ENV B=c
