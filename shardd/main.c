/* shardd: see README.md of this folder. */
#include "shardd/config.h"
#include "shardd/server.h"

int main(int argc, char **argv)
{
    struct shardd_config config;
    enum config_action action = shardd_config_load(argc, argv, &config);
    int code = action == CONFIG_RUN       ? server_run(&config, argc, argv)
               : action == CONFIG_EXIT_OK ? 0
                                          : 2;
    config_free(shardd_config_keys, shardd_config_n, &config);
    return code;
}
