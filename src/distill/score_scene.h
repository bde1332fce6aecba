/* score_scene.h -- what `sds` and `vsd` with a scene share: settings, the plan of a scene that follows a teacher's scores, the phase that moves it, what is shown.
 *
 *     picture      R(theta, c), c a camera, rendered outside the graph first; x_t = alpha R + beta eps (1.24), asked of the teacher and of s_zeta on the host (guess.h)
 *     scene        E <u, R(theta, c)>, u = omega alpha (s_zeta - s_teacher): its gradient is (1.29), its value means nothing (1.26)
 *
 * so that u is an input of the phase, and whatever can be asked for x0 is a teacher: networks, oracles. */
#ifndef RT_DISTILL_SCORE_SCENE_H
#define RT_DISTILL_SCORE_SCENE_H

#include "distill/method.h"
#include "retort/scene.h"

/* s_zeta. */
typedef enum rt__zeta {
    RT__ZETA_NOISE, /* -eps/beta: the mean of it, given x_t, is the score of the noisy picture */
    RT__ZETA_NONE,  /* 0 */
    RT__ZETA_EXACT, /* of the mixture of all particles at the camera; of an affine generator: of its normal distribution */
    RT__ZETA_NETWORK,
    RT__ZETA_BLIND, /* a network that is not told the camera */
} rt__zeta;

/* The first of a method's settings. */
typedef struct rt__scene_settings {
    char kind[16], cameras[RT_CONFIG_TEXT], prompt[256], background[16], init[RT_CONFIG_TEXT];
    char azimuth[48], elevation[48], distance[48], fovy[48]; /* LOW,HIGH */
    int64_t label;                                           /* class */
    int nodes[RT_CONFIG_LIST], n_nodes, samples[RT_CONFIG_LIST], n_samples, size[RT_CONFIG_LIST], n_size;
    double lr, smooth, entropy, sparse;
    int particles;
    /* the method's, under its own name */
    double t_min, t_max, anneal, guidance;
    char weight[32], zeta[16];
    double score_lr;
    int score_updates;
} rt__scene_settings;

enum { RT__SCENE_KEYS = 18 };
extern const rt_config_key rt__scene_keys[RT__SCENE_KEYS];

#define RT__SCORE_SCENE_KEYS(method)                                                                                                       \
    RT__REAL(method ".t-min", t_min, 0, 1, "0.02", "least time of noise, as a fraction of the process"),                                   \
        RT__REAL(method ".t-max", t_max, 0, 1, "0.98", "largest time of noise, as a fraction of the process"),                             \
        RT__REAL(method ".anneal", anneal, 0, 1, "0", "where the largest time has fallen to at the end of a round; 0: it does not"),       \
        RT__REAL(method ".guidance", guidance, -1, 1e4, "-1",                                                                              \
                 "weight omega of (1.39), for the teacher only; -1: 0 where the teacher is told the camera, 6.5 where it is not"),         \
        RT__TEXT(method ".weight", weight, "alpha", "NAME", "omega SNR, row of `retort list weights`: alpha is omega = beta^2/alpha")

#define RT__SCENE_DEFAULTS                                                                                                                 \
    "train.batch", "8", "train.updates", "2000", "train.lr-schedule", "tenth", "train.warmup", "0", "train.clip", "0", "train.beta1",      \
        "0.9", "train.beta2", "0.99", "train.eps", "1e-15", "train.ema", "0", "run.log-every", "10"

static inline const rt__scene_settings *rt__scene_own(const rt_task *t) { return rt__own(t->config); }

/* Of round r: the grid's nodes, samples and size grow from round to round. */
rt_scene_spec rt__scene_spec(const rt_task *t, int round);
/* The generator m + L z in the place of pictures: --net affine. */
bool rt__scene_affine(const rt_task *t);
/* Plans the rounds, the scene's networks and phases, and the teacher; refuses what cannot be. `zeta` by name, of `sds` and `vsd`. */
rt_status rt__scene_plan(const rt_task *t, rt_plan *plan, rt__zeta zeta, rt_error *err);
rt__zeta rt__scene_zeta(const rt_task *t);

/* The cameras of run u: `n` of a batch of `batch`, from number `first` on, one in each of `batch` sectors of the azimuth. */
void rt__scene_cameras(const rt_task *t, const rt_cameras *file, uint64_t seed, int64_t u, int64_t first, int64_t n, int64_t batch,
                       rt_camera *cameras);

extern const rt_showing rt__scene_showing;

#endif
