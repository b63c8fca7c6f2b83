/* Runs a fuzz target over every file of a corpus folder, so that each past finding stays a test where there
 * is no fuzzer. Also feeds each file cut off at a few lengths. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return perror(path), 1;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    if (size < 0) return perror(path), fclose(f), 1;
    uint8_t *data = malloc((size_t)size + 1);
    if (!data || fread(data, 1, (size_t)size, f) != (size_t)size)
        return perror(path), fclose(f), free(data), 1;
    fclose(f);
    for (int eighths = 8; eighths >= 1; eighths--) {
        size_t n = (size_t)size * (size_t)eighths / 8;
        uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is caught */
        if (!exact) return free(data), 1;
        memcpy(exact, data, n);
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
    }
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: %s CORPUS_DIR\n", argv[0]), 2;
    DIR *d = opendir(argv[1]);
    if (!d) return perror(argv[1]), 1;
    int n = 0, bad = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        bad += replay(path);
        n++;
    }
    closedir(d);
    printf("%d inputs replayed\n", n);
    return bad || n == 0;
}
