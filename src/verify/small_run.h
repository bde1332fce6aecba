/* small_run.h -- the first round of a method on a small conditional network with random weights, on TrigFlow (alpha = cos(pi t/2), beta = sin(pi t/2)):
 * its loss, and the network as a black box to write the equation out with. Failures stick in *err; what follows them is NaN or NULL. */
#ifndef RT_VERIFY_SMALL_RUN_H
#define RT_VERIFY_SMALL_RUN_H

#include "distill/sources.h"

enum { RT__BATCH = 8, RT__WIDTH = 2, RT__CLASSES = 3, RT__FOLDER = 256 }; /* the last class is the null class */

typedef struct rt__small_run {
    rt_error *err;
    rt_config config;
    rt_task task;
    rt_round round;
    rt_phase *phase; /* its first, or the chosen one */
    rt_net *net;
    rt_params *teacher;
    rt_process *process;
    rt_dataset *data; /* toy:moons */
    rt_program *program;
    char folder[RT__FOLDER];
} rt__small_run;

/* A network of the configuration `text`, which is FOLDER/config.json of a temporary folder. rt__small_folder_remove after a failure, too. */
rt_status rt__small_net(const char *text, char folder[RT__FOLDER], rt_net **net, rt_error *err);
void rt__small_folder_remove(const char *folder); /* "": there is none */

/* keys: settings and their values, NULL at the end. */
void rt__small_run_open(rt__small_run *r, const char *method, const char *const *keys, rt_error *err);
void rt__small_run_close(rt__small_run *r);
/* Goes on with another phase of the round. */
void rt__small_run_phase(rt__small_run *r, const char *name);

/* The loss of one update; `more` (n of them) are nodes to look at besides. */
double rt__small_run_loss(rt__small_run *r, rt_node *const *more, int n);
/* The buffer of a node in `more`, and of an input of the phase. */
const void *rt__small_run_data(rt__small_run *r, const rt_node *node);
const void *rt__small_run_input(rt__small_run *r, const char *name);
/* A network of the method, in this round. */
const rt_denoiser *rt__small_run_network(const rt__small_run *r, const char *name);

/* x0 at one point x (RT__WIDTH numbers) and time t for class y: v-prediction out of the network, guidance (1.39), both by their definition. */
void rt__small_run_denoise(rt__small_run *r, const rt_denoiser *m, double t, const double *x, int64_t y, double *x0);
/* x goes from s to t in N equal DDIM steps (1.30). */
void rt__small_run_roll(rt__small_run *r, const rt_denoiser *m, double s, double t, int N, double *x, int64_t y);

#endif
