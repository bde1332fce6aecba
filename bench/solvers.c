/* solvers.c -- docs/solvers.md and its pictures: error against network calls for every solver, on an exact mixture and on the Fashion-MNIST teacher, and
 * the order measured beside the one claimed. `make solvers` runs it; it takes the folder to write to. */
#include "retort/diffusion.h"
#include "retort/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIE_UNLESS_OK(call)                                                                                                                \
    do {                                                                                                                                   \
        rt_error err = {0};                                                                                                                \
        if ((call) != RT_OK) {                                                                                                             \
            fprintf(stderr, "solvers: %s\n", err.text);                                                                                    \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

enum { D = 2, ROWS = 64, PICTURES = 16, POINTS = 8, MOST_SOLVERS = 64, MOST_STEPS = 1024 };

typedef struct curve {
    const rt_solver_info *solver;
    int points;
    double calls[POINTS], error[POINTS];
    double order; /* measured; NaN: not */
} curve;

/* ---- the mixture: from t = 0.95 to 0.02 of vp-cosine against the exact flow map */

typedef struct exact {
    rt_process *process;
    rt_oracle *oracle;
    double from, to, start[ROWS * D], want[ROWS * D];
} exact;

static void prepare_exact(exact *e)
{
    static const double weights[] = {0.5, 0.3, 0.2}, means[] = {1.2, 0.3, -1, 0.8, 0, -1.3},
                        covariances[] = {0.05, 0, 0, 0.08, 0.1, 0.03, 0.03, 0.06, 0.04, 0, 0, 0.04};
    rt_process_spec spec = rt_process_defaults("vp-cosine");
    DIE_UNLESS_OK(rt_process_new(&e->process, &spec, &err));
    DIE_UNLESS_OK(rt_oracle_mixture(&e->oracle, 3, D, weights, means, covariances, e->process, rt_prediction_find("x0", NULL), &err));
    e->from = 0.95, e->to = 0.02;
    uint64_t seed = 1;
    for (int i = 0; i < ROWS * D; i++) { /* any states will do: near normal */
        double sum = 0;
        for (int k = 0; k < 12; k++) sum += (double)((seed = seed * 6364136223846793005u + 1442695040888963407u) >> 11) * 0x1p-53;
        e->start[i] = sum - 6;
    }
    const rt_process *p = e->process;
    DIE_UNLESS_OK(rt_oracle_flow_map(e->oracle, rt_process_alpha(p, e->from), rt_process_beta(p, e->from), rt_process_alpha(p, e->to),
                                     rt_process_beta(p, e->to), ROWS, e->start, e->want, &err));
}

/* RMS error of `steps` steps even in log-SNR (or in beta/alpha). */
static double exact_error(const exact *e, const char *solver, int steps)
{
    double times[MOST_STEPS + 1], x[ROWS * D], sum = 0, high = rt_process_log_snr(e->process, e->from),
                                               low = rt_process_log_snr(e->process, e->to);
    for (int k = 0; k <= steps; k++) times[k] = rt_process_time(e->process, high + (low - high) * k / steps);
    times[0] = e->from, times[steps] = e->to;
    rt_field field = rt_oracle_field(e->oracle);
    rt_sample_spec spec = {.process = e->process, .solver = rt_solver_find(solver, NULL), .steps = steps, .from = times};
    memcpy(x, e->start, sizeof x);
    DIE_UNLESS_OK(rt_sample(&spec, &field, ROWS, x, NULL, &err));
    for (int i = 0; i < ROWS * D; i++) sum += (x[i] - e->want[i]) * (x[i] - e->want[i]);
    return sqrt(sum / (ROWS * D));
}

/* ---- the teacher: from noise to data, against 512 steps of dpmpp-3m */

typedef struct pictures {
    rt_model *model;
    float *want, *x;
    int64_t count;
} pictures;

static rt_status take(void *user, const rt_samples *s, rt_error *err)
{
    pictures *p = user;
    (void)err;
    int64_t row = p->count / PICTURES;
    memcpy(p->x + s->first * row, s->x, (size_t)(s->count * row) * sizeof *s->x);
    return RT_OK;
}

static void draw(pictures *p, const char *solver, int steps)
{
    rt_sampling s = {.n = PICTURES, .batch = PICTURES, .steps = steps, .grid = "log-snr", .solver = solver};
    rt_sample_report report;
    DIE_UNLESS_OK(rt_model_sample(p->model, &s, take, p, &report, &err));
}

static void prepare_pictures(pictures *p, const char *path)
{
    DIE_UNLESS_OK(rt_model_open(&p->model, &(rt_model_spec){.path = path, .threads = 1}, &err));
    p->count = PICTURES * rt_model_get_info(p->model)->features;
    p->want = malloc((size_t)p->count * sizeof *p->want);
    p->x = malloc((size_t)p->count * sizeof *p->x);
    if (!p->want || !p->x) exit(1);
    draw(p, "dpmpp-3m", 512);
    memcpy(p->want, p->x, (size_t)p->count * sizeof *p->x);
}

static double picture_error(pictures *p, const char *solver, int steps)
{
    double sum = 0;
    draw(p, solver, steps);
    for (int64_t i = 0; i < p->count; i++) sum += pow((double)(p->x[i] - p->want[i]), 2);
    return sqrt(sum / (double)p->count);
}

/* ---- curves */

static bool deterministic(const rt_solver_info *info) { return !info->stochastic && strcmp(info->name, "dopri5") != 0; }

static void measure(curve *mixture, curve *fashion, const exact *e, pictures *p, const rt_solver_info *info)
{
    *mixture = *fashion = (curve){.solver = info, .order = NAN};
    for (int calls = 4; calls <= 512; calls *= 2) {
        int steps = calls / info->calls;
        if (steps < 1) continue;
        mixture->calls[mixture->points] = steps * info->calls;
        mixture->error[mixture->points++] = exact_error(e, info->name, steps);
        if (calls > 64 || steps < 2) continue;
        fashion->calls[fashion->points] = (steps - 1) * info->calls + 1; /* the step to data is one call */
        fashion->error[fashion->points++] = picture_error(p, info->name, steps);
    }
    for (int steps = 64; steps <= 512; steps *= 2) { /* the last doubling before rounding */
        double coarse = exact_error(e, info->name, steps), fine = exact_error(e, info->name, 2 * steps);
        if (fine < 1e-10) break;
        mixture->order = log2(coarse / fine);
    }
    fprintf(stderr, "%-20s order %.2f\n", info->name, mixture->order);
}

/* ---- pictures: one panel per family, ddim in each for comparison */

static const struct panel {
    const char *title, *rows[16];
} panels[] = {
    {"Runge-Kutta", {"euler", "heun", "midpoint", "rk4", "heun-sigma"}},
    {"DPM-Solver, singlestep", {"dpm-2", "dpm-3", "dpmpp-2s", "dpmpp-3s", "dpmpp-2s-grid", "dpmpp-3s-grid"}},
    {"DPM-Solver, multistep", {"dpm-2m", "dpmpp-2m", "dpmpp-2m-heun", "dpmpp-3m", "dpmpp-3m-published"}},
    {"UniPC, iPNDM", {"unipc-2", "unipc-3", "unipc-3-bh1", "unipc-3-eps", "ipndm"}},
};
static const char *const colours[] = {"#1b6ca8", "#d1495b", "#3a7d44", "#8d5fb5", "#e08e00", "#00838f"};

typedef struct axes {
    double left, top, width, height, x0, x1, y0, y1; /* log2 of calls, log10 of errors */
} axes;

static double at_x(const axes *a, double calls) { return a->left + (log2(calls) - a->x0) / (a->x1 - a->x0) * a->width; }
static double at_y(const axes *a, double error)
{
    double v = fmin(fmax(log10(error), a->y0), a->y1);
    return a->top + (a->y1 - v) / (a->y1 - a->y0) * a->height;
}

static void put_curve(FILE *f, const axes *a, const curve *c, const char *colour, double width)
{
    fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" points=\"", colour, width);
    for (int i = 0; i < c->points; i++)
        if (c->calls[i] >= exp2(a->x0)) fprintf(f, "%.1f,%.1f ", at_x(a, c->calls[i]), at_y(a, c->error[i]));
    fprintf(f, "\"/>\n");
}

static void put_axes(FILE *f, const axes *a, const char *title)
{
    fprintf(f, "<text x=\"%g\" y=\"%g\" font-weight=\"bold\">%s</text>\n", a->left, a->top - 8, title);
    for (double y = ceil(a->y0); y <= a->y1; y++) {
        double py = at_y(a, pow(10, y));
        fprintf(f, "<line x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", a->left, a->left + a->width, py, py);
        fprintf(f, "<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">1e%g</text>\n", a->left - 4, py + 4, y);
    }
    for (double x = a->x0; x <= a->x1; x++)
        fprintf(f, "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%g</text>\n", at_x(a, exp2(x)), a->top + a->height + 14, exp2(x));
}

static const curve *named(const curve *curves, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(curves[i].solver->name, name)) return &curves[i];
    return NULL;
}

static void write_svg(const char *folder, const char *name, const curve *curves, int n, double x1, double y0)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f) exit(1);
    const char *back = "#bbb";
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"980\" height=\"700\" font-family=\"sans-serif\" font-size=\"11\">\n"
               "<rect width=\"980\" height=\"700\" fill=\"white\"/>\n");
    for (int k = 0; k < 4; k++) {
        axes a = {50 + 480 * (k % 2), 30 + 345 * (k / 2), 300, 280, 2, x1, y0, 0};
        put_axes(f, &a, panels[k].title);
        put_curve(f, &a, named(curves, n, "ddim"), back, 3);
        for (int i = 0; panels[k].rows[i]; i++) {
            const curve *c = named(curves, n, panels[k].rows[i]);
            if (!c) continue;
            put_curve(f, &a, c, colours[i], 1.8);
            fprintf(f, "<text x=\"%g\" y=\"%g\" fill=\"%s\">%s</text>\n", a.left + a.width + 8, a.top + 30 + 16 * i, colours[i],
                    c->solver->name);
        }
        fprintf(f, "<text x=\"%g\" y=\"%g\" fill=\"#999\">ddim</text>\n", a.left + a.width + 8, a.top + 14);
        fprintf(f, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">network calls</text>\n", a.left + a.width / 2, a.top + a.height + 28);
    }
    fprintf(f, "</svg>\n");
    if (fclose(f) != 0) exit(1);
}

static void put_errors(FILE *f, const curve *c, int from, int to)
{
    for (int calls = from; calls <= to; calls *= 2) {
        const char *cell = "";
        char text[32];
        for (int i = 0; i < c->points; i++)
            if (c->calls[i] <= calls && c->calls[i] > calls / 2.) snprintf(text, sizeof text, "%.1e", c->error[i]), cell = text;
        fprintf(f, " %s |", cell);
    }
}

static void write_page(const char *folder, const curve *mixture, const curve *fashion, int n)
{
    char path[4096];
    rt_row_text row;
    snprintf(path, sizeof path, "%s/solvers.md", folder);
    FILE *f = fopen(path, "w");
    if (!f) exit(1);
    fprintf(f,
            "# Solvers\n\nWritten by `make solvers` (`bench/solvers.c`).\n\n"
            "## An exact mixture\n\n"
            "RMS error of %d states that go from t = 0.95 to 0.02 of `vp-cosine` in steps even in log-SNR, against the exact flow map, by "
            "network calls.\n"
            "\"Order\" is claimed for whole memories; the measured one is that of the last doubling of up to 1,024 steps before rounding "
            "counts, cold start\n"
            "included (a multistep row takes its first steps with fewer memories; `tests/oracle/oracle_test.c` measures its steps with "
            "whole ones).\n\n"
            "![error against calls on the mixture](solvers-mixture.svg)\n\n"
            "| solver | order | measured | 8 calls | 16 | 32 | 64 | 128 | 256 |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
            ROWS);
    for (int i = 0; i < n; i++) {
        fprintf(f, "| %s | %d | %.2f |", mixture[i].solver->name, mixture[i].solver->order, mixture[i].order);
        put_errors(f, &mixture[i], 8, 256);
        fprintf(f, "\n");
    }
    fprintf(f,
            "\n## The Fashion-MNIST teacher\n\n"
            "RMS difference of %d pictures (range -1 to 1) to those of 512 steps of `dpmpp-3m` from the same noise; steps even in log-SNR, "
            "the last one to data.\n\n"
            "![error against calls on Fashion-MNIST](solvers-fashion-mnist.svg)\n\n"
            "| solver | 8 calls | 16 | 32 | 64 |\n| --- | --- | --- | --- | --- |\n",
            PICTURES);
    for (int i = 0; i < n; i++) {
        fprintf(f, "| %s |", fashion[i].solver->name);
        put_errors(f, &fashion[i], 8, 64);
        fprintf(f, "\n");
    }
    fprintf(f, "\n## Solvers that add noise\n\n"
               "Their weak order is measured without drawing a sample, on a Gaussian, where mean and variance of what a solver makes "
               "follow from one run with unit\n"
               "probes (`tests/oracle/stochastic_solvers.c`).\n\n| solver | weak order | step |\n| --- | --- | --- |\n");
    for (int i = 0; rt_solver_describe(i, &row); i++) {
        const rt_solver_info *info = rt_solver_get_info(rt_solver_find(row.name, NULL));
        if (info->stochastic) fprintf(f, "| %s | %d | %s |\n", info->name, info->order, info->formula);
    }
    if (fclose(f) != 0) exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: solvers MODEL FOLDER\n");
        return 2;
    }
    static curve mixture[MOST_SOLVERS], fashion[MOST_SOLVERS];
    exact e;
    pictures p;
    int n = 0;
    rt_row_text row;
    prepare_exact(&e);
    prepare_pictures(&p, argv[1]);
    for (int i = 0; rt_solver_describe(i, &row) && n < MOST_SOLVERS; i++) {
        const rt_solver_info *info = rt_solver_get_info(rt_solver_find(row.name, NULL));
        if (!deterministic(info)) continue;
        measure(&mixture[n], &fashion[n], &e, &p, info);
        n++;
    }
    write_svg(argv[2], "solvers-mixture.svg", mixture, n, 9, -9);
    write_svg(argv[2], "solvers-fashion-mnist.svg", fashion, n, 6, -4);
    write_page(argv[2], mixture, fashion, n);
    rt_model_free(p.model);
    rt_oracle_free(e.oracle);
    rt_process_free(e.process);
    free(p.want), free(p.x);
    return 0;
}
