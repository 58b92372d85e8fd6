"""What teams own: one folder for each model. The engine reaches it by its name, through tasks/spec.py.

``models/<name>/model.py`` holds ``MODEL = ModelSpec(...)``, and only puts together; `airloop render` writes it to spec.json. What
shapes a stage's output is in files that dvc.yaml names for every model, so that a stage is run again when its own change:

definitions.py   key, outcome and features, for the code    ingest, validate, labels, features
schema.py        columns and types of what lands            ingest, validate
reading/         landed text to typed columns               ingest, validate
rules.py         value rules                                validate
tail.py          what later look-backs can still see        validate
labels.py        outcomes that an interval brings           labels
features_sql.py  the features' SQL                          features
spec.json        the declaration, by section                each stage the digests of the sections that it reads
params.py        SECTIONS: settings that it types itself    none: DVC compares the settings that a stage reads
params.yaml      its numbers, by section                    each stage the sections that it uses
"""
