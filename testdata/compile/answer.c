/* Multiplies. */
#include <stdio.h>

static void show(int a, int b)
{
    printf("%d * %d = %d\n", a, b, a * b);
}

int main(void)
{
    show(6, 7);
    return 0;
}
