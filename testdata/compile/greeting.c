/* Greets, then becomes the program that it is given. */
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    puts("hello from a container");
    fflush(stdout);
    if (argc > 1)
        execv(argv[1], argv + 1);
    return argc > 1;
}
