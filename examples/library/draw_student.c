/* draw_student MODEL COUNT OUT: draws pictures from a model and writes them below each other, as OUT in the format PGM or PPM.
 *
 * MODEL is a folder that `retort distill` has written, or any other that `retort inspect` takes; a student brings its own number of steps. */
#include <retort.h>

#include <stdio.h>
#include <stdlib.h>

static int fail(const retort_error *err)
{
    fprintf(stderr, "draw_student: %s\n", err->text);
    return (int)err->status;
}

int main(int argc, char **argv)
{
    retort_error err;
    retort_model *model = NULL;
    retort_model_info info = {.size = sizeof info};
    if (argc != 4) return fprintf(stderr, "usage: draw_student MODEL COUNT OUT\n"), 2;
    if (!retort_version_check(RETORT_VERSION_NUMBER)) return fprintf(stderr, "libretort is older than retort.h\n"), 1;

    if (retort_model_open(&model, argv[1], NULL, &err) != RETORT_OK) return fail(&err);
    if (retort_model_describe(model, &info, &err) != RETORT_OK) return fail(&err);
    if (info.rank != 3 || (info.shape[0] != 1 && info.shape[0] != 3)) return fprintf(stderr, "%s draws no pictures\n", info.path), 1;
    printf("%s: %s, pictures of %lldx%lld, made for %d steps\n", info.path, info.network, (long long)info.shape[2],
           (long long)info.shape[1], info.steps);

    retort_sampling s = {.size = sizeof s, .count = atoi(argv[2]), .seed = 7};
    float *x = malloc((size_t)s.count * (size_t)info.features * sizeof *x);
    if (!x || retort_sample(model, &s, x, NULL, &err) != RETORT_OK) return x ? fail(&err) : 4;

    /* channel by channel in memory, pixel by pixel in the file */
    int64_t pixels = info.shape[1] * info.shape[2];
    FILE *out = fopen(argv[3], "wb");
    if (!out) return perror(argv[3]), 5;
    fprintf(out, "P%d\n%lld %lld\n255\n", info.shape[0] == 1 ? 5 : 6, (long long)info.shape[2], (long long)(info.shape[1] * s.count));
    for (int64_t j = 0; j < s.count; j++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < info.shape[0]; c++) {
                double v = (x[j * info.features + c * pixels + p] - info.low) / (info.high - info.low);
                fputc((int)(255 * (v < 0 ? 0 : v > 1 ? 1 : v) + 0.5), out);
            }
    if (fclose(out) != 0) return perror(argv[3]), 5;
    free(x);
    retort_model_free(model);
    return 0;
}
