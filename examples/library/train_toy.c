/* train_toy RUN [UPDATES]: trains a small network on two moons in the folder RUN, says how it goes, and draws from the result. Ctrl-C stops it after the update
 * in progress; the same command goes on. */
#include <retort.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t interrupted;
static void on_signal(int number) { interrupted = number; }

static int watch(void *self, const retort_progress *now)
{
    (void)self;
    if (now->done % 100 == 0)
        printf("%s: %lld of %lld %s, loss %.3f\n", now->what, (long long)now->done, (long long)now->total, now->unit, now->loss);
    return interrupted != 0;
}

static void remark(void *self, const char *line) { fprintf(self, "remark: %s\n", line); }

int main(int argc, char **argv)
{
    static const char network[] = "{\"_class_name\": \"RetortMLP\", \"data_dim\": 2, \"hidden\": 64, \"layers\": 3}\n";
    const char *keys[][2] = {{"data.path", "toy:moons"},       {"net", "toy-network.json"},
                             {"out", argc > 1 ? argv[1] : ""}, {"train.updates", argc > 2 ? argv[2] : "500"},
                             {"train.batch", "128"},           {"train.lr", "2e-3"}};
    retort_error err = {RETORT_OK, ""};
    retort_settings *settings = NULL;
    retort_result result = {.size = sizeof result};
    if (argc < 2) return fprintf(stderr, "usage: train_toy RUN [UPDATES]\n"), 2;
    FILE *f = fopen("toy-network.json", "w");
    if (!f || fputs(network, f) < 0 || fclose(f) != 0) return perror("toy-network.json"), 5;
    signal(SIGINT, on_signal);
    retort_set_log(remark, stderr);

    retort_status status = retort_settings_new(&settings, "denoise", &err);
    for (size_t i = 0; i < sizeof keys / sizeof *keys && status == RETORT_OK; i++)
        status = retort_settings_set(settings, keys[i][0], keys[i][1], &err);
    retort_training training = {.size = sizeof training, .resume = 1, .observe = watch};
    if (status == RETORT_OK) status = retort_train(settings, &training, &result, &err);
    retort_settings_free(settings);
    if (status != RETORT_OK) return fprintf(stderr, "train_toy: %s\n", err.text), (int)status;
    printf("%lld updates, loss %.3f: %s\n", (long long)result.updates, result.loss, result.folder);

    enum { N = 8 };
    float x[2 * N];
    retort_model *model = NULL;
    retort_sampling s = {.size = sizeof s, .count = N, .steps = 20};
    if (retort_model_open(&model, result.folder, NULL, &err) != RETORT_OK || retort_sample(model, &s, x, NULL, &err) != RETORT_OK)
        return fprintf(stderr, "train_toy: %s\n", err.text), (int)err.status;
    for (int j = 0; j < N; j++) printf("%7.3f %7.3f\n", x[2 * j], x[2 * j + 1]);
    retort_model_free(model);
    return 0;
}
