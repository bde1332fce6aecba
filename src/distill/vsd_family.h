/* vsd_family.h -- what methods of a generator, a teacher and an auxiliary score share: the settings `vsd.*`, the plan of the three networks, the phase of the
 * auxiliary score, and a draw of what every objective is a function of. A method reads like its paper: it plans these, and builds the generator's phase.
 *
 *     typedef struct own { rt__vsd_settings vsd; double alpha; } own;      // the family's settings stand first: rt__own(config) is both
 *     {rt__vsd_keys, RT__VSD_KEYS, 0}                                     // and are a group of its keys
 *
 * Defaults of a member's own stand in the method's row. */
#ifndef RT_DISTILL_VSD_FAMILY_H
#define RT_DISTILL_VSD_FAMILY_H

#include "distill/method.h"

typedef struct rt__vsd_settings {
    double t_min, t_max;               /* of the generator's times, fractions of the process */
    char times[32], score_times[32];   /* rows of `retort list densities` */
    char weight[32], score_weight[32]; /* rows of `retort list weights`; score_weight also own */
    char normalise[16];                /* dmd or none */
    int score_updates;
    double score_lr; /* 0: train.lr, of a fresh network twice that */
    int64_t score_warmup;
    char fake_net[RT_CONFIG_TEXT], fake_prediction[32], prediction[32];
    double guidance;
    char range[64];                                    /* of omega as a knob; empty: the teacher's, if it has one */
    double start;                                      /* time of the input of a generator of one step, a fraction of the process */
    int steps, timesteps[RT_CONFIG_LIST], n_timesteps; /* of the student; 0, and none listed: one */
    bool score_step;                                   /* the score is told which step made a sample */
} rt__vsd_settings;

enum { RT__VSD_KEYS = 19 };
extern const rt_config_key rt__vsd_keys[RT__VSD_KEYS];

/* Refuses settings that cannot be; plans one round, and the networks: student, teacher, and score, the auxiliary one. `start`: the time at which the
 * generator is asked first. A student of several steps is sampled by `renoise` and trained on the states that this visits. */
rt_status rt__vsd_plan(const rt_task *t, rt_plan *plan, double start, rt_error *err);
/* The score's phase, vsd.score-updates runs in each update; the one that is planned first moves first. build NULL: rt__vsd_score_build, (1.17) alone. */
rt_phase_plan *rt__vsd_plan_score(rt_plan *plan, const rt_task *t, rt_status (*build)(rt_phase *p, rt_error *err));
rt_status rt__vsd_score_build(rt_phase *p, rt_error *err);
/* The generator's phase, after vsd.score-warmup. */
rt_phase_plan *rt__vsd_plan_generator(rt_plan *plan, const rt_task *t, rt_status (*build)(rt_phase *p, rt_error *err));
/* Steps of the student, by vsd.steps or vsd.timesteps. */
int rt__vsd_steps(const rt_task *t);
/* The time that vsd.start says, or the first of vsd.timesteps; whole on a discrete process. */
double rt__vsd_start(const rt_task *t);

/* One draw of a phase. x0 (B,..) from noise z at the start, or the answer of one of several steps, y (B) its class or NULL, x_t (1.12) at a time t of its own per sample, w (B) the weight there. */
typedef struct rt__vsd_sample {
    rt_node *x0, *y, *omega, *eps, *xt, *w; /* omega (B) that the sample was made with, NULL: there is no knob */
    rt_node *when;                          /* (B) t as a fraction of the process */
    rt_node *step;                          /* (B) which of the student's steps made x0, 0 the first; NULL: the score is not told */
    rt_at t;
} rt__vsd_sample;
/* G(z): the x0-prediction at the start, for classes y, told omega (NULL: there is no knob): of several steps that of the first. The draw is named "z". */
rt_node *rt__vsd_generate(rt_phase *p, rt_node *y, rt_node *omega);
/* For the generator's phase: times of vsd.times in vsd.t-min..vsd.t-max, the weight vsd.weight. */
rt_status rt__vsd_sample_generator(rt_phase *p, rt__vsd_sample *s, rt_error *err);
/* Likewise, but all samples of the batch share the time that is drawn. */
rt_status rt__vsd_sample_generator_at_one_time(rt_phase *p, rt__vsd_sample *s, rt_error *err);
/* For whatever learns from the generator's samples as they are: x0 is constant, times of vsd.score-times, all of them, the weight vsd.score-weight. */
rt_status rt__vsd_sample_score(rt_phase *p, rt__vsd_sample *s, rt_error *err);

/* For meters: times even over the log-SNR of the generator's, s->w their vsd.weight; score_weight (B): the weight of the score's loss there. */
rt_status rt__vsd_sample_held_out(rt_phase *p, rt__vsd_sample *s, rt_node **score_weight, rt_error *err);

/* The auxiliary score's x0-prediction at s. */
rt_node *rt__vsd_score(rt_phase *p, const rt__vsd_sample *s);
/* x0-predictions of the teacher and of the auxiliary score at s; logs the meters score_gap and fake_lag. */
void rt__vsd_predict(rt_phase *p, const rt__vsd_sample *s, rt_node **f_p, rt_node **f_z);
/* Whether differences are divided by DMD's normaliser: vsd.normalise, never of vectors. */
bool rt__vsd_normalised(const rt_task *t);
/* (1.17) at s. */
rt_node *rt__vsd_score_loss(rt_phase *p, const rt__vsd_sample *s);

#endif
