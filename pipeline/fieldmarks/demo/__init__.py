"""The offline demo: invented species, drawings of them, and two small models that know them."""
