/* sds.c -- score distillation sampling: a scene is moved so that the teacher's score of its noisy pictures vanishes; (1.29) with s_zeta = 0 (keep), or, of the same
 * mean and less variance, with -eps/beta in its place (subtract). It seeks the mode. */
#include "distill/score_scene.h"

#include "base/internal.h"

#include <string.h>

#define STRUCT rt__scene_settings
static const rt_config_key keys[] = {
    RT__SCORE_SCENE_KEYS("sds"),
    RT__TEXT("sds.noise", zeta, "subtract", "NAME",
             "subtract: u = w (x0 - teacher's x0); keep: x_t/alpha in the place of x0, the lecture's s_zeta = 0"),
};
static const rt_key_group groups[] = {{rt__scene_keys, RT__SCENE_KEYS, 0}, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status sds_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const char *noise = rt__scene_own(t)->zeta;
    if (strcmp(noise, "subtract") != 0 && strcmp(noise, "keep") != 0) RT_RAISE(RT_E_USAGE, "sds.noise: '%s'; give subtract or keep", noise);
    return rt__scene_plan(t, plan, rt__scene_zeta(t), err);
}

static const char *const sds_defaults[] = {RT__SCENE_DEFAULTS, "train.lr", "0", NULL};

const rt_method rt__method_sds = {
    .name = "sds",
    .title = "score distillation sampling: a scene whose pictures the teacher finds likely",
    .source = "Poole et al. 2022, DreamFusion",
    .equation = "(1.24)-(1.29), s_zeta = 0",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER,
    .settings = groups,
    .defaults = sds_defaults,
    .plan = sds_plan,
    .showing = &rt__scene_showing,
};
