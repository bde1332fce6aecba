/* cmd_convert.c -- retort convert FROM TO: a scene in the formats of other programs. */
#include "scenes.h"

#include "retort/format.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cli_option options[] = {
    {"level", 0, "A", "convert.level", NULL, "opacity of a cell at the surface (0.5), or of the faintest node that becomes a splat (1/255)",
     NULL},
    {"components", 0, "N", "convert.components", "0", "keep the N largest pieces of the surface; 0: all", NULL},
    CLI_PARTICLE_OPTION,
    {0}};

static rt_status surface(cli_call *c, const rt_volume *v, rt_mesh *m, rt_error *err)
{
    double level = cli_text(c, "level") ? cli_real(c, "level", 1e-6, 1 - 1e-6) : 0.5;
    int components = (int)cli_int(c, "components", 0, 1 << 30);
    TRY(cli_ok(c, err));
    TRY(rt_mesh_surface(m, v, level, components, err));
    cli_put(c, "level", json_real(level));
    cli_put(c, "vertices", json_integer(m->n_vertices));
    cli_put(c, "triangles", json_integer(m->n_triangles));
    cli_put(c, "components", json_integer(m->n_components));
    cli_put(c, "area", json_real(m->area));
    cli_put(c, "volume", json_real(m->volume));
    return RT_OK;
}

static void say_surface(cli_call *c, const char *to, const rt_mesh *m)
{
    cli_say(c, "%s: %lld triangles in %d piece%s", to, (long long)m->n_triangles, m->n_components, m->n_components > 1 ? "s" : "");
    if (m->all_components > m->n_components) cli_say(c, "%d smaller pieces were left out", m->all_components - m->n_components);
}

/* ---- forms: the ending of TO decides */

typedef rt_status (*mesh_writer)(const char *path, const rt_mesh *m, const rt_volume *v, rt_error *err);

static rt_status write_ply(const char *path, const rt_mesh *m, const rt_volume *v, rt_error *err)
{
    (void)v;
    return rt_ply_write(path, m, err);
}

static rt_status write_mesh(cli_call *c, const rt_volume *v, const char *to, mesh_writer write, rt_error *err)
{
    rt_mesh m = {0};
    rt_status status = surface(c, v, &m, err);
    if (status == RT_OK) status = write(to, &m, v, err);
    if (status == RT_OK) say_surface(c, to, &m);
    rt_mesh_free(&m);
    return status;
}

static rt_status write_splats(cli_call *c, const rt_volume *v, const char *to, rt_error *err)
{
    double least = cli_text(c, "level") ? cli_real(c, "level", 1e-6, 1 - 1e-6) : 1.0 / 255;
    int64_t n;
    if (cli_given(c, "components")) cli_wrong(c, "components", "splats have no surface, and so no pieces");
    TRY(cli_ok(c, err));
    TRY(rt_splats_write(to, v, least, &n, err));
    cli_put(c, "level", json_real(least));
    cli_put(c, "splats", json_integer(n));
    cli_say(c, "%s: %lld splats", to, (long long)n);
    return RT_OK;
}

static rt_status write_values(cli_call *c, const rt_volume *v, const char *to, rt_error *err)
{
    const int64_t shape[] = {3, v->nodes[0], v->nodes[1], v->nodes[2]};
    const rt_named_tensor list[] = {{"density", RT_F32, 3, shape + 1, v->density}, {"colour", RT_F32, 4, shape, v->colour}};
    char bias[32];
    snprintf(bias, sizeof bias, "%.17g", v->density_bias);
    const char *const metadata[] = {"density_bias", bias, NULL};
    if (cli_given(c, "level") || cli_given(c, "components")) cli_wrong(c, "level", "values of nodes have no surface");
    TRY(cli_ok(c, err));
    TRY(rt_tensors_write(to, list, 2, metadata, err));
    cli_say(c, "%s: the raw values of %dx%dx%d nodes", to, v->nodes[0], v->nodes[1], v->nodes[2]);
    return RT_OK;
}

typedef struct form {
    rt_status (*write)(cli_call *c, const rt_volume *v, const char *to, rt_error *err);
    mesh_writer mesh;
    const char *beside[2]; /* endings of the other files that belong to it */
} form;
static const char *const endings[] = {".splat.ply", ".safetensors", ".glb", ".obj", ".ply"};
static const form forms[] = {{.write = write_splats},
                             {.write = write_values},
                             {.mesh = rt_glb_write},
                             {.mesh = rt_obj_write, .beside = {".mtl", ".png"}},
                             {.mesh = write_ply}};

static rt_status claim(cli_call *c, const char *to, size_t f, rt_error *err)
{
    TRY(cli_claim_out(c, to, err));
    for (int i = 0; i < 2 && forms[f].beside[i]; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%.*s%s", (int)(strlen(to) - strlen(endings[f])), to, forms[f].beside[i]);
        TRY(cli_claim_out(c, path, err));
    }
    return RT_OK;
}

static rt_status run(cli_call *c, rt_error *err)
{
    const char *from = c->arguments[0], *to = c->arguments[1];
    size_t f, n = sizeof endings / sizeof *endings;
    rt_scene *scene = NULL;
    if (cli_holds(to, from)) return rt_error_set(err, RT_E_USAGE, "%s: is or holds the scene that is converted; choose another name", to);
    rt_volume v = {0};
    float *values = NULL;
    int particle;
    TRY(cli_ending("TO", to, endings, n, &f, err));
    if (f == n) return rt_error_set(err, RT_E_USAGE, "TO %s: has no ending; must be one of .glb .obj .ply .splat.ply .safetensors", to);
    TRY(claim(c, to, f, err));
    TRY(cli_open_scene(c, from, &scene, &particle, err));
    rt_status status = cli_scene_volume(scene, from, particle, &v, &values, err);
    cli_put(c, "scene", cli_scene_json(from, scene));
    cli_put(c, "particle", json_integer(particle));
    cli_put(c, "out", json_string(to));
    if (status == RT_OK) cli_put(c, "largest_opacity", json_real(rt_volume_opacity(&v)));
    if (status == RT_OK && c->dry_run) {
        cli_print_config(c, c->text);
        cli_say(c, "would write %s: the largest opacity of a cell is %.3g", to, rt_volume_opacity(&v));
    } else if (status == RT_OK) {
        status = forms[f].mesh ? write_mesh(c, &v, to, forms[f].mesh, err) : forms[f].write(c, &v, to, err);
        if (status == RT_E_INVALID) rt_error_prefix(err, "%s", from);
    }
    free(values);
    rt_scene_free(scene);
    return status;
}

const cli_command cli_convert_command = {
    .name = "convert",
    .arguments = "FROM TO",
    .summary = "a scene as a mesh or splats",
    .text =
        "Writes a scene, that of a run or a folder with scene.json, for other programs. The ending of TO decides: .glb (a mesh with a\n"
        "texture, y up), .obj (with .mtl and .png beside it, y up), .ply (a mesh with colours of vertices, z up), .splat.ply (Gaussians,\n"
        "as 3D Gaussian splatting has them, y down), .safetensors (the raw values of the nodes). The surface is where a cell's opacity\n"
        "is --level; where nothing is as opaque, that is exit 3 with the largest opacity.",
    .examples = "retort convert examples/scene figure.glb --components 1",
    .options = options,
    .min_arguments = 2,
    .max_arguments = 2,
    .run = run,
};
