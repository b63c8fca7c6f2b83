/* A program of somebody else's: built only with what pkg-config says about the installed library. */
#include <serin/serin.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    if (strcmp(srn_err_name(SRN_EFORMAT), "EFORMAT") != 0) return 1;
    printf("linked with serin %s\n", srn_version());
    return 0;
}
