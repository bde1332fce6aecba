/* kept_samples.h -- the teacher's samples that a run keeps, as settings: how many, and how they are drawn. `dmd` regresses on them; a critic without data
 * takes them for the real ones.
 *
 *     typedef struct own { ...; rt__sample_settings samples; } own;
 *     {rt__sample_keys, RT__SAMPLE_KEYS, offsetof(own, samples)} */
#ifndef RT_DISTILL_KEPT_SAMPLES_H
#define RT_DISTILL_KEPT_SAMPLES_H

#include "distill/method.h"

typedef struct rt__sample_settings {
    int64_t pairs;
    int steps;
    char solver[32];
} rt__sample_settings;

enum { RT__SAMPLE_KEYS = 3 };
extern const rt_config_key rt__sample_keys[RT__SAMPLE_KEYS];

/* The teacher of the plan draws as the settings say. RT_E_USAGE for a solver that is none, or that adds noise: no sample belongs to a noise then. */
rt_status rt__plan_samples(rt_plan *plan, const rt__sample_settings *own, rt_error *err);
/* The source of the samples: rt__source_pairs. */
rt_status rt__open_samples(rt_phase *p, const rt__sample_settings *own, rt_error *err);

#endif
