/* adversary.h -- what methods with a critic share: the settings `gan.*`, a head on the auxiliary score, which is the critic's trunk, real samples, logits of noised
 * samples. Head and trunk are one set: the score's phase trains both.
 *
 *     typedef struct own { rt__adversarial_settings family; ... } own;     // stands first, as vsd's settings do
 *     RT__ADVERSARIAL_GROUPS, {keys, RT_COUNT(keys), 0}                    // three groups of keys */
#ifndef RT_DISTILL_ADVERSARY_H
#define RT_DISTILL_ADVERSARY_H

#include "distill/critic.h"
#include "distill/kept_samples.h"
#include "distill/vsd_family.h"

typedef struct rt__gan_settings {
    double weight, critic_weight, r1, t_max;
    int64_t start;
    char head[16], levels[16];
} rt__gan_settings;

typedef struct rt__adversarial_settings {
    rt__vsd_settings vsd;
    rt__gan_settings gan;
    rt__sample_settings samples;
} rt__adversarial_settings;

enum { RT__GAN_KEYS = 7 };
extern const rt_config_key rt__gan_keys[RT__GAN_KEYS];
#define RT__ADVERSARIAL_GROUPS                                                                                                             \
    {rt__vsd_keys, RT__VSD_KEYS, 0}, {rt__gan_keys, RT__GAN_KEYS, offsetof(rt__adversarial_settings, gan)},                                \
    {                                                                                                                                      \
        rt__sample_keys, RT__SAMPLE_KEYS, offsetof(rt__adversarial_settings, samples)                                                      \
    }

/* After rt__vsd_plan, where gan.weight is above 0: rt__gan_plan_critic. Keys of a critic that will not be, and data and samples of the teacher that nobody asks for, are
 * refused; `regresses`: the method regresses on the samples. */
rt_status rt__gan_plan(const rt_task *t, rt_plan *plan, bool regresses, rt_error *err);
/* Gives the network "score" a head. Real samples come from the data set, else from the oracle's own draws, else from dmd.pairs samples of the teacher; refuses a task
 * without. */
rt_status rt__gan_plan_critic(const rt_task *t, rt_plan *plan, bool regresses, rt_error *err);
bool rt__gan_planned(const rt_task *t); /* has the score a head? */

/* The score's phase: (1.17), with a critic beside it as a mean over features; and the critic alone. */
rt_status rt__gan_score_build(rt_phase *p, rt_error *err);
rt_status rt__gan_critic_build(rt_phase *p, rt_error *err);

/* Real samples x (B,..) of classes y (B) or NULL: inputs of the phase, and their source, opened. */
rt_status rt__gan_real(rt_phase *p, rt_node **x, rt_node **y, rt_error *err);

/* The critic's logits (B) at x_t. */
rt_node *rt__gan_logit(rt_phase *p, rt_node *xt, rt_at t, rt_node *y);
/* Its logits at x_t (B,..) of classes y, at the times of s. */
rt_node *rt__vsd_logit(rt_phase *p, const rt__vsd_sample *s, rt_node *xt, rt_node *y);
/* x (B,..), by the student's step `step` or one that nobody is told (NULL), at times of its own, of vsd.score-times up to gan.t-max: which of them a critic sees more often does not move its optimum. Draws t.NAME,
 * eps.NAME. */
typedef struct rt__gan_sample {
    rt_node *xt;
    rt_at t;
} rt__gan_sample;
rt_status rt__gan_noised(rt_phase *p, const char *name, rt_node *x, rt_node *step, rt__gan_sample *s, rt_error *err);

/* The critic's loss on the student's samples and on real ones, at their own times, with gan.r1; d NULL: the GAN's, else the f-GAN's. */
rt_status rt__gan_critic_loss(rt_phase *p, const rt_divergence *d, const rt__vsd_sample *s, rt_node **loss, rt_error *err);
/* gan.weight E softplus(-l(x_t)). */
rt_status rt__gan_generator_term(rt_phase *p, const rt__vsd_sample *s, rt_node **loss, rt_error *err);
/* The same, 0 before update gan.start of the generator; NULL: gan.weight is 0. */
rt_status rt__gan_generator_loss(rt_phase *p, const rt__vsd_sample *s, rt_node **loss, rt_error *err);

#endif
