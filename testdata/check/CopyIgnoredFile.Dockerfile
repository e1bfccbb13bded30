# ignores secret*
# finds CopyIgnoredFile at 4
FROM scratch
COPY secret.txt /
COPY public.txt /
