/* vsd_scene.c -- variational score distillation of a scene (1.25)-(1.29): its pictures from every camera become as likely to the teacher as they are among themselves.
 * s_zeta, the score of the noisy pictures, is a network that is trained all along by (1.17), told the camera or not, or exact over the particles. */
#include "distill/score_scene.h"

#include "base/internal.h"

#include <string.h>

#define STRUCT rt__scene_settings
static const rt_config_key keys[] = {
    RT__SCORE_SCENE_KEYS("vsd"),
    RT__TEXT("vsd.score", zeta, "", "NAME",
             "s_zeta: network, a copy of the teacher that is told the camera; blind, one that is not; exact, over the particles; empty: "
             "network, exact for oracles"),
    RT__INT("vsd.score-updates", score_updates, 1, 1000, "1", "updates of the network s_zeta for one of the scene"),
    RT__REAL("vsd.score-lr", score_lr, 0, 1e3, "0.0002", "learning rate of the network s_zeta"),
};
static const rt_key_group groups[] = {{rt__scene_keys, RT__SCENE_KEYS, 0}, {keys, RT_COUNT(keys), 0}, {0}};

static rt_status vsd_plan(const rt_task *t, rt_plan *plan, rt_error *err)
{
    const char *score = rt__scene_own(t)->zeta;
    if (*score && strcmp(score, "network") != 0 && strcmp(score, "blind") != 0 && strcmp(score, "exact") != 0)
        RT_RAISE(RT_E_USAGE, "vsd.score: '%s'; give network, blind or exact", score);
    return rt__scene_plan(t, plan, rt__scene_zeta(t), err);
}

static const char *const vsd_defaults[] = {RT__SCENE_DEFAULTS, "train.lr", "0", NULL};

const rt_method rt__method_vsd_scene = {
    .name = "vsd-scene",
    .title = "variational score distillation of a scene, in three dimensions or as a picture: vsd with --scene",
    .source = "Wang et al. 2023, ProlificDreamer",
    .equation = "(1.24)-(1.29)",
    .needs_teacher = true,
    .reads = RT_READS_TEACHER,
    .settings = groups,
    .defaults = vsd_defaults,
    .plan = vsd_plan,
    .showing = &rt__scene_showing,
    .of = "vsd",
    .called = "vsd with a scene",
};
