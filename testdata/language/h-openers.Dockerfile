FROM scratch
RUN cat <<A 3<<-B > /x
a
A
	b
	B
ONBUILD COPY <<E /f
x
E
