/* json_check.c -- does a JSON document obey a schema? `json_check SCHEMA.json < document`; exit 0 if it does, else each deviation on a line.
 *
 * Knows the part of JSON Schema that docs/json uses: type, const, enum, required, properties, additionalProperties, items, minimum. A keyword
 * that it does not know is an error, so no schema promises more than is checked. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void complain(const char *path, const char *what, const char *detail)
{
    printf("%s: %s%s\n", *path ? path : "document", what, detail);
    failures++;
}

static int is_type(const json_t *v, const char *type)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return strcmp(type, "object") == 0;
    case JSON_ARRAY: return strcmp(type, "array") == 0;
    case JSON_STRING: return strcmp(type, "string") == 0;
    case JSON_INTEGER: return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case JSON_REAL: return strcmp(type, "number") == 0;
    case JSON_TRUE:
    case JSON_FALSE: return strcmp(type, "boolean") == 0;
    default: return strcmp(type, "null") == 0;
    }
}

static void check_type(const json_t *v, const json_t *type, const char *path)
{
    int ok = json_is_string(type) && is_type(v, json_string_value(type));
    size_t i;
    json_t *one;
    json_array_foreach(type, i, one) ok |= is_type(v, json_string_value(one));
    if (!ok) complain(path, "is of another type than the schema says", "");
}

static void check(const json_t *schema, json_t *v, const char *path);

static void check_object(const json_t *schema, json_t *v, const char *path)
{
    const json_t *properties = json_object_get(schema, "properties"), *others = json_object_get(schema, "additionalProperties");
    json_t *name, *value;
    const char *key;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i, name) if (!json_object_get(v, json_string_value(name)))
        complain(path, "lacks ", json_string_value(name));
    json_object_foreach(v, key, value)
    {
        char deeper[512];
        snprintf(deeper, sizeof deeper, "%s.%s", path, key);
        const json_t *known = json_object_get(properties, key);
        if (known)
            check(known, value, deeper);
        else if (json_is_false(others))
            complain(path, "has a key that the schema does not name: ", key);
        else if (json_is_object(others))
            check(others, value, deeper);
    }
}

static void check(const json_t *schema, json_t *v, const char *path)
{
    static const char *const known[] = {"$schema",  "title",      "description",          "type",  "const",  "enum",
                                        "required", "properties", "additionalProperties", "items", "minimum"};
    const char *key;
    json_t *rule, *item;
    size_t i;
    json_object_foreach((json_t *)schema, key, rule)
    {
        int found = 0;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) found |= strcmp(known[k], key) == 0;
        if (!found) complain(path, "the schema uses a keyword that is not checked: ", key);
    }
    if ((rule = json_object_get(schema, "type"))) check_type(v, rule, path);
    if ((rule = json_object_get(schema, "const")) && !json_equal(rule, v)) complain(path, "is not the constant", "");
    if ((rule = json_object_get(schema, "enum"))) {
        int found = 0;
        json_array_foreach(rule, i, item) found |= json_equal(item, v);
        if (!found) complain(path, "is none of the values that the schema lists", "");
    }
    if ((rule = json_object_get(schema, "minimum")) && json_is_number(v) && json_number_value(v) < json_number_value(rule))
        complain(path, "is below the minimum", "");
    if (json_is_object(v)) check_object(schema, v, path);
    if ((rule = json_object_get(schema, "items"))) json_array_foreach(v, i, item)
        {
            char deeper[512];
            snprintf(deeper, sizeof deeper, "%s[%zu]", path, i);
            check(rule, item, deeper);
        }
}

int main(int argc, char **argv)
{
    json_error_t error;
    json_t *schema = argc == 2 ? json_load_file(argv[1], JSON_REJECT_DUPLICATES, &error) : NULL;
    if (!schema) {
        printf("usage: json_check SCHEMA < document (%s)\n", argc == 2 ? error.text : "no schema");
        return 2;
    }
    json_t *document = json_loadf(stdin, JSON_REJECT_DUPLICATES, &error);
    if (!document) {
        printf("not JSON: line %d: %s\n", error.line, error.text);
        return 1;
    }
    check(schema, document, "");
    json_decref(schema);
    json_decref(document);
    return failures != 0;
}
